"""Each provider against a model of it, over histories of calls that hypothesis generates.

hypothesis runs a machine in a thread, and the provider runs in the event loop of the test. The
first difference between the results of provider and model ends a history; hypothesis reports the
shortest history that it finds.
"""
