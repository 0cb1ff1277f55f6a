"""Steps from each schema to the next. They name tables and columns as they were at that time."""
