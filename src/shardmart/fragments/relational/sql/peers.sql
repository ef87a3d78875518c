-- Customer_Region: every customer of every region, on every node, written on every node (docs/fragments.md).
-- {region} is the node's name.  A row carries its version (time in microseconds, node) and the version that it replaced; a
-- deleted row stays as a tombstone, because a replicated DELETE would carry no time.

-- thing: table customer_region
CREATE TABLE Customer_Region (
    region text NOT NULL,
    customer_id text NOT NULL,
    customer_name text COLLATE "C" NOT NULL,
    email text NOT NULL,
    city text NOT NULL,
    country text NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    version_time bigint NOT NULL,
    version_node text COLLATE "C" NOT NULL,
    base_time bigint NOT NULL DEFAULT 0,
    base_node text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (region, customer_id)
);

-- What Customer refuses is refused on every node: a row that its home cannot take would stop the home's subscriptions.
-- (NOT VALID: a cluster of an earlier version may have such rows, and gets the rule for what is written from now on.)

-- thing: constraint customer_region_has_a_name ON customer_region
ALTER TABLE Customer_Region ADD CONSTRAINT customer_region_has_a_name CHECK (customer_name <> '') NOT VALID;

-- thing: constraint customer_region_country ON customer_region
ALTER TABLE Customer_Region ADD CONSTRAINT customer_region_country CHECK (country ~ '^[A-Z]{2}$') NOT VALID;

-- thing: table customer_region_conflicts
CREATE TABLE Customer_Region_Conflicts (
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    region text NOT NULL,
    customer_id text NOT NULL,
    kept_time bigint NOT NULL,
    kept_node text NOT NULL,
    lost_time bigint NOT NULL,
    lost_node text NOT NULL,
    lost_row jsonb NOT NULL
);

-- thing: table customer_region_repairs
-- The last comparing repair by each who asked for one: the timer, a command.
CREATE TABLE Customer_Region_Repairs (
    started_by text PRIMARY KEY,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seconds double precision NOT NULL,
    every_seconds double precision,
    rows_different bigint NOT NULL,
    rows_written bigint NOT NULL
);

-- thing: index customer_name_apj
CREATE INDEX customer_name_apj ON Customer_Region (customer_name) WHERE region = 'APJ';

-- thing: index customer_name_emea
CREATE INDEX customer_name_emea ON Customer_Region (customer_name) WHERE region = 'EMEA';

-- thing: index customer_name_latam
CREATE INDEX customer_name_latam ON Customer_Region (customer_name) WHERE region = 'LATAM';

-- thing: index customer_name_
CREATE INDEX customer_name_ ON Customer_Region (customer_name);

-- thing: function customer_region_write
-- A write of a client on this node: stamp it, turn a DELETE into a tombstone, refuse what cannot converge.
CREATE OR REPLACE FUNCTION customer_region_write() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    now_us CONSTANT bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
BEGIN
    IF TG_OP = 'DELETE' THEN
        UPDATE Customer_Region SET deleted = true
            WHERE region = OLD.region AND customer_id = OLD.customer_id AND NOT deleted;
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF NEW.region <> '{region}' THEN
            RAISE EXCEPTION 'customer % of region % is inserted on node %, not on {region}: two nodes could insert one key',
                NEW.customer_id, NEW.region, NEW.region USING ERRCODE = 'check_violation';
        END IF;
        -- A key that was deleted comes back as a newer version of its tombstone.
        UPDATE Customer_Region SET customer_name = NEW.customer_name, email = NEW.email, city = NEW.city,
                country = NEW.country, deleted = false
            WHERE region = NEW.region AND customer_id = NEW.customer_id AND deleted;
        IF FOUND THEN
            RETURN NULL;
        END IF;
        NEW.deleted := false;
        NEW.version_time := now_us;
        NEW.base_time := 0;
        NEW.base_node := '';
    ELSE
        IF (NEW.region, NEW.customer_id) <> (OLD.region, OLD.customer_id) THEN
            RAISE EXCEPTION 'the key of customer % does not change: delete it in % and insert it in %',
                OLD.customer_id, OLD.region, NEW.region USING ERRCODE = 'feature_not_supported';
        END IF;
        -- Later than what it replaces, also where this node's clock is behind.
        NEW.version_time := greatest(now_us, OLD.version_time + 1);
        NEW.base_time := OLD.version_time;
        NEW.base_node := OLD.version_node;
    END IF;
    NEW.version_node := '{region}';
    RETURN NEW;
END $$;

-- thing: trigger customer_region_write ON customer_region
CREATE TRIGGER customer_region_write BEFORE INSERT OR UPDATE OR DELETE ON Customer_Region
    FOR EACH ROW EXECUTE FUNCTION customer_region_write();

-- thing: function customer_region_apply
-- (The worker of a subscription has no search_path.)  A write that comes from a peer or from the repair: the greater (version_time, version_node) stays, a loser is recorded.
CREATE OR REPLACE FUNCTION customer_region_apply() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    mine Customer_Region%ROWTYPE;
    newer boolean;
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- No lock for each key: a transaction of 33,000 inserts ran out of shared memory for them. Where two bring one key
        -- at one time, one of them fails, is tried again, and finds the row.
        SELECT * INTO mine FROM Customer_Region WHERE region = NEW.region AND customer_id = NEW.customer_id FOR UPDATE;
        IF NOT FOUND THEN
            RETURN NEW;
        END IF;
        -- The same trigger, as an UPDATE, decides.
        UPDATE Customer_Region SET customer_name = NEW.customer_name, email = NEW.email, city = NEW.city,
                country = NEW.country, deleted = NEW.deleted, version_time = NEW.version_time,
                version_node = NEW.version_node, base_time = NEW.base_time, base_node = NEW.base_node
            WHERE region = NEW.region AND customer_id = NEW.customer_id;
        RETURN NULL;
    END IF;
    IF (NEW.version_time, NEW.version_node) = (OLD.version_time, OLD.version_node) THEN
        RETURN NULL;
    END IF;
    newer := (NEW.version_time, NEW.version_node) > (OLD.version_time, OLD.version_node);
    -- A conflict is two versions of which neither was made from the other, as far as this node can see.  What the repair
    -- brings was missed, and says nothing of conflicts.
    IF current_setting('shardmart.repair', true) = 'on' THEN
        NULL;
    ELSIF newer AND (NEW.base_time, NEW.base_node) <> (OLD.version_time, OLD.version_node) THEN
        INSERT INTO Customer_Region_Conflicts VALUES (DEFAULT, OLD.region, OLD.customer_id, NEW.version_time,
            NEW.version_node, OLD.version_time, OLD.version_node, to_jsonb(OLD));
    ELSIF NOT newer AND (OLD.base_time, OLD.base_node) <> (NEW.version_time, NEW.version_node) THEN
        INSERT INTO Customer_Region_Conflicts VALUES (DEFAULT, OLD.region, OLD.customer_id, OLD.version_time,
            OLD.version_node, NEW.version_time, NEW.version_node, to_jsonb(NEW));
    END IF;
    IF newer THEN
        RETURN NEW;
    END IF;
    RETURN NULL;
END $$;

-- thing: trigger customer_region_apply ON customer_region
CREATE TRIGGER customer_region_apply BEFORE INSERT OR UPDATE ON Customer_Region
    FOR EACH ROW EXECUTE FUNCTION customer_region_apply();
ALTER TABLE Customer_Region ENABLE REPLICA TRIGGER customer_region_apply;

-- thing: trigger customer_region_no_truncate ON customer_region
CREATE TRIGGER customer_region_no_truncate BEFORE TRUNCATE ON Customer_Region
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

-- thing: view customers_of_all_regions
CREATE OR REPLACE VIEW Customers_Of_All_Regions AS
    SELECT region, customer_id, customer_name, email, city, country FROM Customer_Region WHERE NOT deleted;

-- thing: function keep_customer_region
-- What a node's Customer says is what its peers are told, in the same transaction.
CREATE OR REPLACE FUNCTION keep_customer_region() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM Customer_Region WHERE region = OLD.region AND customer_id = OLD.customer_id;
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM Customer_Region WHERE region = NEW.region AND customer_id = NEW.customer_id) THEN
        INSERT INTO Customer_Region (region, customer_id, customer_name, email, city, country)
            VALUES (NEW.region, NEW.customer_id, NEW.customer_name, NEW.email, NEW.city, NEW.country);
    ELSE -- no new version where nothing is new
        UPDATE Customer_Region SET customer_name = NEW.customer_name, email = NEW.email, city = NEW.city,
                country = NEW.country, deleted = false
            WHERE region = NEW.region AND customer_id = NEW.customer_id
                AND (deleted OR (customer_name, email, city, country) IS DISTINCT FROM
                    (NEW.customer_name, NEW.email, NEW.city, NEW.country));
    END IF;
    RETURN NULL;
END $$;

-- thing: trigger customer_directory ON customer
CREATE TRIGGER customer_directory AFTER INSERT OR UPDATE OR DELETE ON Customer
    FOR EACH ROW EXECUTE FUNCTION keep_customer_region();

-- thing: function keep_customer
-- The other way round: what a peer says of a customer of this region reaches Customer.  A tombstone does not: the customer
-- may have orders, and is deleted at home or not at all.
CREATE OR REPLACE FUNCTION keep_customer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE Customer SET customer_name = NEW.customer_name, email = NEW.email, city = NEW.city, country = NEW.country
        WHERE region = NEW.region AND customer_id = NEW.customer_id
            AND (customer_name, email, city, country) IS DISTINCT FROM
                (NEW.customer_name, NEW.email, NEW.city, NEW.country);
    RETURN NULL;
END $$;

-- thing: trigger customer_home ON customer_region
CREATE TRIGGER customer_home AFTER UPDATE ON Customer_Region
    FOR EACH ROW WHEN (NOT NEW.deleted AND NEW.region = '{region}') EXECUTE FUNCTION keep_customer();
ALTER TABLE Customer_Region ENABLE ALWAYS TRIGGER customer_home;
