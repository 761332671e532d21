"""Faults on demand: what a provider can do wrong, chosen per request by a header or by rules.

    scenarios    the faults by name, and how one is written (pure)
    deeds        what a request is about (pure)
    refusals     what each provider answers when it refuses (pure)
    mangling     true answers, changed (pure)
    rules        which fault meets which request, and how often
    connections  what goes wrong with a connection itself
    files        how the bytes of an output go wrong
    middleware   acts it all out

`docs/sandbox.md` has the table. Of the faults that are not a provider's doing only the names are known here: a
refused connection (F1) is a port on which nothing listens; clocks, kills, disks, several processes and clients
that go away (F27 to F32) are injected where they happen.
"""
