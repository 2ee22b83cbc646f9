"""From a profile to the price of any sequence of steps on any network."""
