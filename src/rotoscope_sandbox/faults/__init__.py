"""Faults on demand: what a provider can do wrong, chosen per request by a header or by rules.

    definitions      the faults by name, and how one is written (pure)
    operations       what a request does, read from its route (pure)
    error_responses  what each provider answers when it refuses (pure)
    rewrite          true answers, changed (pure)
    rules            which fault meets which request, and how often
    connections      what goes wrong with a connection itself
    middleware       acts it all out

`docs/sandbox.md` has the table.
"""
