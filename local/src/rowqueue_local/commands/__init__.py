"""The lab's commands of ``rowqueue``: the product's command line loads them as entry points."""
