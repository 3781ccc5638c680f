-- Processes keep policies and origin strategies in memory: they are told of each change.
CREATE FUNCTION notify_rule_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orchestrator_rules', format('%s %s', TG_TABLE_NAME,
        CASE WHEN TG_OP = 'DELETE' THEN OLD.customer ELSE NEW.customer END));
    RETURN NULL;
END $$;
CREATE TRIGGER policy_changed AFTER INSERT OR UPDATE OR DELETE ON policies
    FOR EACH ROW EXECUTE FUNCTION notify_rule_changed();
CREATE TRIGGER strategy_changed AFTER INSERT OR UPDATE OR DELETE ON origin_strategies
    FOR EACH ROW EXECUTE FUNCTION notify_rule_changed();
