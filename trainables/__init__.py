"""What one trial does: encoders as towers, fusion methods, data, memory prediction and training."""
