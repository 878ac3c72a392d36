"""The search for prompts that elicit a rubric's behaviour, and its confirmation."""
