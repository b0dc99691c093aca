"""What has happened: trials, their results and the store on disk. The only truth about a search."""
