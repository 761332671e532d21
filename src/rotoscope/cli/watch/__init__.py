"""`rotoscope jobs watch`: a live table of the jobs that are open, until they have ended.

It only reads the ledger, when something was written there: it drives no job and delivers no result.
"""
