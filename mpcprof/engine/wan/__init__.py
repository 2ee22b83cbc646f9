"""Ways of putting a wide-area network between processes of one machine."""
