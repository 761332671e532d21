"""HTTP: the records of requests and replies, the checks of addresses and keys, and the only module that sends."""
