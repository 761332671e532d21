"""The contracts: what a tool takes and what it gives, as typed records that every entry shares."""
