"""How does a change that takes minutes and many writes come to its end on a cluster, whatever dies meanwhile?

    book.py       which transactions are under way, stored before anything is done for them
    living.py     which replicas do which role now, and which will
    ground.py     one fleet at one moment: its targets, its replicas, what is under way
    choosing.py   which replicas go or change, and by which way
    beginning.py  a decision becomes a transaction

What a step is, and what follows it, is the core's (core/transaction.py, core/transit.py);
who looks, advances and does it is the conductor.
"""
