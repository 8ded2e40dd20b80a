-- Run once in each interpreter. Returns what makes a fresh environment for one run of a script: nothing that a script does to
-- its globals or to the libraries is there for the next one.
local shared, libraries = ...
local collectgarbage, error, getmetatable, loadstring, pairs, pcall, rawset, setfenv, setmetatable, tostring, type, xpcall =
    collectgarbage, error, getmetatable, loadstring, pairs, pcall, rawset, setfenv, setmetatable, tostring, type, xpcall
local READONLY = "Attempt to modify a readonly table"
local guarded = setmetatable({}, { __mode = "k" })

-- A table that can be read, and looks like what it stands for.
local function readonly(contents, missing)
    local proxy = {}
    guarded[proxy] = true
    return setmetatable(proxy, {
        __index = missing and function(_, name)
            local value = contents[name]
            if value == nil then
                error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
            end
            return value
        end or contents,
        __newindex = function()
            error(READONLY, 2)
        end,
        __metatable = false,
    })
end

-- Methods of strings are found there, and nobody may change them.
getmetatable("").__metatable = {}

for name, library in pairs(libraries) do
    shared[name] = readonly(library)
end

-- An error of a command is a table on its way to the top, and a string for who catches it: as in Redis 7.
local function caught(ok, value, ...)
    if not ok and type(value) == "table" and type(value.err) == "string" then
        value = value.err
    end
    return ok, value, ...
end
shared.pcall = function(...)
    return caught(pcall(...))
end
shared.xpcall = function(f, handler)
    return caught(xpcall(f, handler))
end
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

local function environment(call, redis, keys, args)
    local globals = {}
    for name, value in pairs(shared) do
        globals[name] = value
    end
    local own = {}
    for name, value in pairs(redis) do
        own[name] = value
    end
    own.call = function(...)
        local failed, value = call(...)
        if failed then
            error(value, 0)
        end
        return value
    end
    own.pcall = function(...)
        local _, value = call(...)
        return value
    end
    globals.redis, globals.KEYS, globals.ARGV = readonly(own), keys, args
    local environment = readonly(globals, true)
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
    return environment
end

-- Runs a script; errors that are tables stay tables.
local function run(script)
    return pcall(script)
end

return environment, run
