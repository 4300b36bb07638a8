//! Client of blockhouse (to come).
