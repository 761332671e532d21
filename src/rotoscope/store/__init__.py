"""The store: jobs, intents, events, leases, money and quotes, in one SQL database that several processes may share."""
