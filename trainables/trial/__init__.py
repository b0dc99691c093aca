"""One trial: what it is told, how it trains, and what it leaves behind."""
