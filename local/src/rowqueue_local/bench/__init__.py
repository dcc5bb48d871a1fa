"""The benchmark: ours beside a raw loop (the limit) and the way of the first sketch, with all else the same.

``cases`` says what is run, ``figures`` what is made of it (both pure); ``ground`` is the stand-ins, ``runs`` plays the
cases there, each in processes of its own (``worker``); ``rows`` is about the size of the table.
"""
