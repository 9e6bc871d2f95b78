"""What is uploaded: reads files, touches no hardware."""
