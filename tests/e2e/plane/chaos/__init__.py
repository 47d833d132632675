"""What becomes of drains and flips on a real cluster when anything dies or fails at any moment?

gate.py       the writes of a controller, one by one, and who dies at which
proxy.py      between a controller and the API server: counts writes, answers in its place, is slow, hangs
driver.py     a controller process whose brain wants one thing, and the nursery that it is forked from
arena.py      one fleet with engines, users and controllers
witness.py    what the laws say, looked at all the time
courses.py    each kind of transaction, and the end that it must come to
trials.py     one course with something happening to it, from the first request to the verdict
schedules.py  what happens in which order, by a seed
"""
