"""Operations for IT: doctor, status, corrections, weights."""
