-- Run once in each interpreter. Returns what makes a fresh environment for one run: nothing that a script or a function does to its
-- globals or to the libraries is there for the next one.
local shared, libraries, raised, place = ...
local collectgarbage, concat, coroutine, error, getmetatable, loadstring, pairs, pcall, rawset, setfenv, setmetatable, tostring, type, xpcall =
    collectgarbage, table.concat, coroutine, error, getmetatable, loadstring, pairs, pcall, rawset, setfenv, setmetatable, tostring, type, xpcall
local READONLY = "Attempt to modify a readonly table"
local guarded = setmetatable({}, { __mode = "k" })

local function refuse()
    error(READONLY, 2)
end

-- A table that cannot be written, and gets what it seems to hold from `index`.
local function proxy(index)
    local table = {}
    guarded[table] = true
    return setmetatable(table, { __index = index, __newindex = refuse, __metatable = false })
end

local function nonexistent(name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 3)
end

-- A table that can be read, and looks like what it stands for; if `strict`, what it does not hold is an error.
local function readonly(contents, strict)
    return proxy(strict and function(_, name)
        local value = contents[name]
        if value == nil then
            nonexistent(name)
        end
        return value
    end or contents)
end

local function copy(table, onto)
    for name, value in pairs(table) do
        onto[name] = value
    end
    return onto
end

local string = libraries.string
local find, match, gmatch, gsub = string.find, string.match, string.gmatch, string.gsub

-- What a function says that is called here for a script is said of where that is.
local function ours(value)
    if type(value) == "string" and find(value, "^prelude:%d+: ") then
        value = gsub(value, "^prelude:%d+: ", place(), 1)
    end
    return value
end

local function thrown(value)
    return raised(ours(value))
end

-- Lua's matcher calls itself, on the processor's stack, for each item of a pattern that may repeat or be left out: 100,000 of them end a
-- process, as they do Redis's.
local REPEATS_MAX = 1000

local function check(pattern)
    if type(pattern) == "string" and #pattern > REPEATS_MAX then
        local _, repeats = gsub(pattern, "[*+?-]", "")
        if repeats > REPEATS_MAX then
            error(place() .. "pattern too complex", 0)
        end
    end
end

-- What a function of Lua's own says of what it was given. It knows neither its name nor its caller when it is called from here.
local function returned(name, ok, ...)
    if ok then
        return ...
    end
    local why = ...
    if type(why) ~= "string" or why == "not enough memory" then
        error(why, 0)
    end
    error(place() .. gsub(why, "^(bad argument #%d+ to )'%?'", "%1'" .. name .. "'"), 0)
end

string.find = function(...)
    local _, pattern, _, plain = ...
    if not plain then
        check(pattern)
    end
    return returned("find", pcall(find, ...))
end
string.match = function(...)
    local _, pattern = ...
    check(pattern)
    return returned("match", pcall(match, ...))
end
for _, name in pairs({ "gmatch", "gfind" }) do
    string[name] = function(...)
        local _, pattern = ...
        check(pattern)
        return returned(name, pcall(gmatch, ...))
    end
end
string.gsub = function(...)
    local _, pattern, by = ...
    check(pattern)
    if type(by) == "function" or type(by) == "table" then
        -- What that says is its own.
        return gsub(...)
    end
    return returned("gsub", pcall(gsub, ...))
end

-- Methods of strings are found there, and nobody may change them.
getmetatable("").__metatable = {}

for name, library in pairs(libraries) do
    shared[name] = readonly(library)
end

-- An error of a command is a table on its way to the top, and a string for who catches it: as in Redis 7.
local function caught(ok, value, ...)
    if not ok then
        value = thrown(value)
        if type(value) == "table" and type(value.err) == "string" then
            value = value.err
        end
    end
    return ok, value, ...
end
shared.pcall = function(...)
    return caught(pcall(...))
end
shared.xpcall = function(f, handler)
    return xpcall(f, function(value)
        return handler(thrown(value))
    end)
end
local function resumed(ok, value, ...)
    if not ok then
        value = thrown(value)
    end
    return ok, value, ...
end
local routines = copy(coroutine, {})
routines.resume = function(...)
    return resumed(coroutine.resume(...))
end
shared.coroutine = readonly(routines)
shared.rawset = function(t, key, value)
    if guarded[t] then
        error(READONLY, 0)
    end
    return rawset(t, key, value)
end

-- The interpreter is shared: a script may ask, and change nothing.
shared.collectgarbage = function(what)
    return what == "count" and collectgarbage("count") or 0
end

-- What there is while something runs. `bound` are the functions of this run, among those of `redis`.
local function globals(redis, bound, environment)
    local globals = copy(shared, {})
    globals.redis = readonly(copy(bound, copy(redis, {})))
    globals._G = environment
    globals.loadstring = function(text, name)
        if type(text) ~= "string" or text:sub(1, 1) == "\27" then
            return nil, "only source text can be loaded"
        end
        local chunk, why = loadstring(text, name)
        if chunk then
            setfenv(chunk, environment)
        end
        return chunk, why
    end
    globals.load = function(next, name)
        local pieces = {}
        while true do
            local piece = next()
            if type(piece) ~= "string" or piece == "" then
                return globals.loadstring(concat(pieces), name or "=(load)")
            end
            pieces[#pieces + 1] = piece
        end
    end
    return globals
end

-- The environment of a script.
local function script(redis, bound, keys, args)
    local contents = {}
    local environment = readonly(contents, true)
    copy(globals(redis, bound, environment), contents)
    contents.KEYS, contents.ARGV = keys, args
    return environment
end

-- The environment of a library, and what is called between its loading and the call of a function: while it is loaded there is little.
local function library(loading, register, redis, bound)
    local known = copy(loading, { register_function = register })
    local contents = { redis = readonly(known, true) }
    local environment
    environment = proxy(function(_, name)
        local value = contents[name]
        if value == nil then
            nonexistent(name)
        end
        return value
    end)
    return environment, function()
        contents = globals(redis, bound, environment)
    end
end

-- Runs something; errors that are tables stay tables. `note` sees where it fails.
local function run(note, f, ...)
    local keys, args = ...
    return xpcall(function()
        return f(keys, args)
    end, function(value)
        note()
        return ours(value)
    end)
end

return script, library, run
