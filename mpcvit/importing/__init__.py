"""Other people's checkpoints: a file, the names in it, a network of our own.

weights_file -> layout -> network -> run
"""
