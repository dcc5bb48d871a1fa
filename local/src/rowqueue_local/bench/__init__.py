"""The benchmark: our processor, a plain loop (the limit) and a simple program (the sketch) under the same conditions.

``cases`` lists what is run, ``figures`` computes the results (both pure). ``ground`` starts the stand-ins, ``runs``
runs the cases there, each in its own processes (``worker``). ``rows`` measures the effect of the table's size.
"""
