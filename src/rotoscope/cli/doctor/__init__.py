"""`rotoscope doctor`: what works here, what does not, and what to do about it.

Facts are gathered at few places, all at once and each within a bounded time (`gathering`, from `machine`, `network`,
`clients` and the layers below); what they mean is decided by pure functions (`machine_checks`, `network_checks`).
Nothing is changed but a file that is made in the home folder and removed at once. No key is ever shown.
"""
