-- Nothing but the proof.
return proof
