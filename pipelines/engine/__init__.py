"""What computes: an engine holds one device's weights, takes orders and gives events. Only values go in and come out.

It knows no queue, no page and no picture folder. It runs in a process of its own (proxy.py), or, in tests and programs,
in the caller's (engine.py). May import the work (generation, lab, adapters) and models; start reading at order.py.
"""
