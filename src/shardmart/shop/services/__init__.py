"""The use cases of each service and its handlers of events.  They know ports, and neither HTTP nor a driver."""
