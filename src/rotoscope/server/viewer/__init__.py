"""The viewer: one HTML page that shows a job, in a chat, in a browser and in a file."""
