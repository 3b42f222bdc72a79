"""What is written of the evidence: tables, figures, the report and the explorer."""
