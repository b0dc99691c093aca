"""What every task, method and tower must pass, as code that a plugin's tests may call, too."""
