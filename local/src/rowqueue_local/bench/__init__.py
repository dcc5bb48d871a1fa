"""The benchmark: our processor, a raw loop (the limit) and the first sketch under the same conditions.

``cases`` lists what is run, ``figures`` computes the results (both pure). ``ground`` starts the stand-ins, ``runs``
plays the cases there, each in its own processes (``worker``). ``rows`` measures the effect of the table's size.
"""
