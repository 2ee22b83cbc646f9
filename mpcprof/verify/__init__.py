"""Predictions compared with new measurements by real parties."""
