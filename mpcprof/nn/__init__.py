"""What networks are made of, written once over an abstract algebra.

The same function runs under JAX on secret shares, under torch in training, and on bare
shapes, where it leaves the list of its steps. What is priced is therefore what is
measured, trained and deployed.
"""
