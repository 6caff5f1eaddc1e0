package registry

// Asking is how many commands have come to the loop and are not answered. All of them are decided, but for those that no group has
// room for.
func (s *Service) Asking() int { return int(s.asking.Load()) }

// Waiting is how many of them are in the queue.
func (s *Service) Waiting() int { return len(s.calls) }
