"""The paper: its Figures 1, 3 and 8, and the numbers that it prints."""
