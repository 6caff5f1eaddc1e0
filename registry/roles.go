package registry

// AdminProject holds the keys that admit to REST and the console. Each has a role and a scope.
const AdminProject = "_admin"
