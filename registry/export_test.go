package registry

// Waiting is how many commands are in the queue.
func (s *Service) Waiting() int { return len(s.calls) }
