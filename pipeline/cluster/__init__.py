"""A Ray cluster: commands and calls on its nodes, each with a share of one, and our code with them.

    connection.py  the cluster for the time of a ``with`` block
    shares.py      how many workers its nodes have room for, and what each of them gets
    nodes.py       commands and calls on its nodes

Ray is imported where it is needed: most need no cluster.
"""
