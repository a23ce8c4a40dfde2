"""Fine-tuning: schema-shared packs, the loss on the SQL alone, and run folders."""
