"""The wire: the only room that opens sockets, and the pure words it is spoken to in."""
