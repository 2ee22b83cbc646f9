"""Parties of several hosts: each host starts its own, and they agree before they share.

One file a host says who its party is (`party_file`). Rank 0 leads (`session`), the
others follow (`follower`) and run nothing that they have not agreed to.
"""
