"""Sentences for people, made from codes and parameters; imports nothing of the appliance."""
