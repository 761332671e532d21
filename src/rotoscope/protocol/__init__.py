"""The Model Context Protocol as far as it knows no media: stdio, the fast start, the tasks extension."""
