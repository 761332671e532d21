"""Schemas: from the schema that a provider publishes of a model to a manifest of it. Pure.

documents   what a provider's document says of a model, in one form for all providers
resolving   references and alternatives of a JSON schema, as plain schemas
fields      one input of a schema, as a record
names       what the name of a field says
outputs     where a result is in the output, and of which kind it is
tools       which tool a model serves, or why none
arguments   which tool argument fills which field
drafting    the manifest as data, with what was guessed and what is open
writing     the manifest as commented TOML
"""
