"""Search: alpha and beta under a loss in seconds, and architectures derived of them."""
