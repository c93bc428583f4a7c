"""Each provider against a plain model of it, over histories of calls that hypothesis makes up.

A machine is driven from a thread, as hypothesis wants it, and the provider in the event loop of
the test. The first difference between what the provider and the model answer ends a history, and
hypothesis shows the shortest one it finds.
"""
