"""Measures what neural networks cost under secure computation, and prices them."""
