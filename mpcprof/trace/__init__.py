"""What each party does when: computing, sending, or waiting for a message."""
