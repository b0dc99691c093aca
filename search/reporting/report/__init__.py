"""The report of one or several searches: what it says, and the page that shows it."""
