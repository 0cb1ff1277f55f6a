"""Judge the appliance where the truth is known: on pairs of slides, on single tiles."""
