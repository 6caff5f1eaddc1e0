// Package sealing keeps the keys to sealed admin parts: names, descriptions, hints and actors, which PoPs have no need of.
//
// Each project's events are sealed under a data key of its own. The log has it in project_opened, wrapped by a sealing
// key, which stands in a file of the operator's and nowhere else. So whoever has a copy of the log, as every PoP does, and
// not that file reads no admin part; losing the file loses them.
//
// A later sealing key wraps the data keys made from then on. What older ones have wrapped stays in the log, so they are
// kept beside it. It is left to events how a part is sealed, and to the registry when a project gets its data key.
package sealing
