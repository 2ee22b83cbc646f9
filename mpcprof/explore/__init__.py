"""One self-contained page that prices networks live, from profiles."""
